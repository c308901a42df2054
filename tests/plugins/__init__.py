"""What the packages say: the registry's entry, the plugins, the skill. Whether hosts take them: `tests.hosts`."""

"""The engines: what keeps the mail. Each implements `store.Store`; only `wiring` chooses one."""

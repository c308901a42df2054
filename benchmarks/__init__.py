"""How fast it is, as ratios that hold on any machine: `python -m benchmarks`.

Each row sets what we do against what nobody can avoid, measured in the same run and alternating (A B A B …), so that
whatever else the machine does meets both. Absolute times are shown nowhere but under `--json`.
"""

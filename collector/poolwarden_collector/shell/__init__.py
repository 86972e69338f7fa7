"""The collector's outside world: clock, journal, telemetry, agents' streams, fence devices, probes, alerts, operators.

Nothing is decided here. Events go into ``core.engine.step`` one at a time; what it wants remembered is made durable,
and only then is what it wants done performed.
"""

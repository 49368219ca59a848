"""The service seen from outside: stage times, metrics, traces, logs."""

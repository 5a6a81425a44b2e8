"""How long tasks and flows may take, in seconds: generous, and never without an end.

A run whose process is gone is found by its heartbeats. These find one that hangs: a connection that never answers, a
driver that waits for ever. What hangs in native code is not interrupted before it comes back to Python; in a task that
trains, the timeout lets the step end and a checkpoint be written, as SIGTERM does.
"""

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

SHORT = 15 * MINUTE  # a task that reads and writes documents
LONG = 2 * HOUR  # a task that reads, checks or copies pictures, prompts or weights
ON_THE_GPU = DAY  # an evaluation or a calibration, with the hours that it waits for its turn
TRAINING = 3 * DAY
STAGE = 7 * DAY  # a stage of a retrain, with all its attempts and the wait for a worker

SHORT_FLOW = 6 * SHORT  # of a few short tasks, tried again
LONG_FLOW = 6 * LONG
GPU_FLOW = ON_THE_GPU + LONG_FLOW
TRAINING_FLOW = TRAINING + LONG_FLOW
RETRAIN = 2 * STAGE

"""Timeouts of tasks and flows, in seconds: generous, but always finite.

Missing heartbeats reveal a run whose process has died; timeouts reveal one that hangs: a connection without a response,
a driver that blocks. Native code is interrupted only when it returns to Python; in a training task the timeout lets the
step end and a checkpoint be written, as SIGTERM does.
"""

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

SHORT = 15 * MINUTE  # a task that reads and writes documents
LONG = 2 * HOUR  # a task that reads, checks or copies pictures, prompts or weights
ON_THE_GPU = DAY  # an evaluation or a calibration, including the wait for the GPU slot
TRAINING = 3 * DAY
STAGE = 7 * DAY  # a stage of a retrain, including all attempts and the wait for a worker

SHORT_FLOW = 6 * SHORT  # a few short tasks with retries
LONG_FLOW = 6 * LONG
GPU_FLOW = ON_THE_GPU + LONG_FLOW
TRAINING_FLOW = TRAINING + LONG_FLOW
RETRAIN = 2 * STAGE

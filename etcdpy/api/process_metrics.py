"""prometheus-client's metrics of the process, also where /proc shows processes and nothing else."""

from __future__ import annotations

import time

from prometheus_client.process_collector import ProcessCollector


class ProcessMetrics(ProcessCollector):
    """Takes the time of boot from the clocks: under the unit's `ProcSubset=pid` there is no /proc/stat, and without it
    prometheus-client leaves out all of `process_`.
    """

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

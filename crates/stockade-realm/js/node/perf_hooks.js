export const { performance, PerformanceEntry, PerformanceMark, PerformanceMeasure, PerformanceObserver } = globalThis;
export const constants = {};

// Guests do not learn how their event loop is delayed: all zero.
export function monitorEventLoopDelay() {
  const histogram = { min: 0, max: 0, mean: 0, stddev: 0, exceeds: 0 };
  return { ...histogram, enable: () => true, disable: () => true, reset() {}, percentile: () => 0 };
}

export default {
  constants,
  monitorEventLoopDelay,
  performance,
  PerformanceEntry,
  PerformanceMark,
  PerformanceMeasure,
  PerformanceObserver,
};

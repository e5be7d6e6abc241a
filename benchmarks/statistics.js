/** Returns the median; for an even number of values the mean of the middle two, for none `NaN`. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  if (sorted.length === 0) return NaN
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Returns the value that `percent` per cent of the values do not exceed (nearest rank). Sorts the typed array in place. */
export function percentile(values, percent) {
  if (values.length === 0) return NaN
  values.sort()
  return values[Math.min(values.length, Math.max(1, Math.ceil((percent / 100) * values.length))) - 1]
}

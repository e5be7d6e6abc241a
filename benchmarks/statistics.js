/** Returns the median, or `NaN` for an empty list. For an even number of values, it is the mean of the middle two. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  if (sorted.length === 0) return NaN
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2
}

/**
 * Returns a percentile of a typed array by the nearest-rank method, or `NaN` if the array is empty. Sorts the array in
 * place.
 */
export function percentile(values, percent) {
  if (values.length === 0) return NaN
  values.sort()
  return values[Math.min(values.length, Math.max(1, Math.ceil((percent / 100) * values.length))) - 1]
}

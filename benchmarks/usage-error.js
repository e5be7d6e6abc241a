/** An error that the caller can fix. Its message has one line, and the process exits with code 2. */
export class UsageError extends Error {}

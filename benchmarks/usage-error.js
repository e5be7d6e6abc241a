/** An error that the caller can fix. Its message is one line, and the exit code is 2. */
export class UsageError extends Error {}

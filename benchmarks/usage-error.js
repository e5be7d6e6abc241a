/**
 * An error that the user of the command line can fix. Its message is a single line, and the process exits with code 2.
 */
export class UsageError extends Error {}

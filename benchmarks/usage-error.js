/** What the caller can mend: said in one line, and exit code 2. */
export class UsageError extends Error {}

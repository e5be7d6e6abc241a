import cliProgress from 'cli-progress'

/** Shows a progress bar if the output is a terminal. Otherwise, prints one line for each step. */
export function createProgress(total, stream = process.stdout) {
  if (!stream.isTTY)
    return { step: (text) => stream.write(`${text}\n`), say: (text) => stream.write(`${text}\n`), stop() {} }
  const bar = new cliProgress.SingleBar(
    {
      format: ' {bar} {percentage}% | {eta_formatted} left | {step}',
      clearOnComplete: true,
      stopOnComplete: false,
      hideCursor: true
    },
    cliProgress.Presets.shades_classic
  )
  let done = 0
  const begin = () => bar.start(total, done, { step: '' })
  begin()
  return {
    step: (text) => bar.update(done++, { step: text }),
    /** Prints a line above the bar. */
    say(text) {
      bar.stop()
      stream.write(`${text}\n`)
      begin()
    },
    stop: () => bar.stop()
  }
}

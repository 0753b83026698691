/**
 * A process that does what the process that forked it asks for, and ends with it.
 */

/** What a worker can be asked for, by name. */
export type Commands = Record<string, (argument: never) => Promise<unknown>>

export function serve (commands: Commands): void {
  process.on('message', ({ id, name, argument }: { id: number, name: string, argument: never }) => {
    commands[name]!(argument).then(
      (result) => { process.send!({ id, result }) },
      (error) => { process.send!({ id, error: String((error as Error).stack) }) }
    )
  })
  process.once('disconnect', () => { process.exit() })
}

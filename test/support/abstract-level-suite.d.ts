declare module 'abstract-level/test/index.js' {
  export default function suite (options: { test: unknown, factory: (options?: object) => unknown }): void
}

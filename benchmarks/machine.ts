/**
 * Where figures come from: they mean little without it.
 */
import { cpus } from 'node:os'

export const machine = { node: process.version, platform: process.platform, cpu: cpus()[0]?.model, cores: cpus().length }

export const machineText = `Node ${machine.node}, ${machine.cores} x ${machine.cpu}`

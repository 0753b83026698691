/**
 * Figures as a table for people.
 */
import type { Figure, Floor } from './figures.ts'
import type { Summary } from './statistics.ts'

const heads = ['', 'unit', 'median (min - max)', 'against', 'median (min - max)', 'ratio (min - max)', 'CPU', 'floor']

export function table (figures: readonly Figure[]): string {
  const lines = [heads]
  let benchmark: string | undefined
  for (const figure of figures) {
    if (figure.benchmark !== benchmark) lines.push([figure.benchmark])
    benchmark = figure.benchmark
    lines.push(cells(figure))
  }
  const widths = heads.map((_, column) => Math.max(...lines.filter((line) => line.length > 1).map((line) => line[column]!.length)))
  return lines.map((line) => line.map((cell, column) => column === 0 || line.length === 1 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)).join('  ').trimEnd()).join('\n')
}

function cells (figure: Figure): string[] {
  const { name, unit, reference, ratio, cpuRatio, floor, missed } = figure
  return [
    `  ${name}`,
    unit,
    range(figure, number),
    reference?.name ?? '',
    reference === undefined ? '' : range(reference, number),
    ratio === undefined ? '' : range(ratio, (value) => value.toFixed(2)),
    cpuRatio === undefined ? '' : cpuRatio.median.toFixed(2),
    floor === undefined ? '' : `${floorText(floor)}${missed === true ? ' MISSED' : ''}`
  ]
}

function range ({ median, min, max }: Summary, format: (value: number) => string): string {
  return `${format(median)} (${format(min)} - ${format(max)})`
}

function number (value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(value >= 10 ? 1 : 2)
}

function floorText (floor: Floor): string {
  if ('ratio' in floor) return floor.ratio.toFixed(2)
  if ('ratioAtMost' in floor) return `<= ${floor.ratioAtMost}`
  return 'atLeast' in floor ? `>= ${number(floor.atLeast)}` : `<= ${floor.atMost}`
}

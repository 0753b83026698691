/**
 * Certificates for tests: just enough of X.509 (RFC 5280) in DER, signed with ECDSA.
 */
import { createHash, createPrivateKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'

const day = 24 * 60 * 60 * 1000

export interface Certificate {
  readonly name: string
  readonly key: string
  readonly cert: string
}

export interface CertificateSettings {
  /** Who signs; itself by default. */
  readonly issuer?: Certificate
  readonly authority?: boolean
  readonly notBefore?: Date
  readonly notAfter?: Date
}

let serials = 0

/** A new key and its certificate, both in PEM. */
export function makeCertificate (name: string, { issuer, authority = false, notBefore = new Date(Date.now() - day), notAfter = new Date(Date.now() + day) }: CertificateSettings = {}): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const algorithm = sequence(oid('2a8648ce3d040302')) // ecdsa-with-SHA256
  const publicKeyInfo = publicKey.export({ type: 'spki', format: 'der' })
  const extensions = authority
    ? [extension('551d13', sequence(der(0x01, Buffer.of(0xff)))), extension('551d0f', der(0x03, Buffer.of(1, 0x06)))] // CA, may sign
    : [extension('551d13', sequence())]
  const content = sequence(
    der(0xa0, integer(2)),
    integer(++serials),
    algorithm,
    distinguishedName(issuer?.name ?? name),
    sequence(time(notBefore), time(notAfter)),
    distinguishedName(name),
    publicKeyInfo,
    der(0xa3, sequence(...extensions, extension('551d0e', der(0x04, createHash('sha1').update(publicKeyInfo).digest()))))
  )
  const signer: KeyObject = issuer === undefined ? privateKey : createPrivateKey(issuer.key)
  const bytes = sequence(content, algorithm, der(0x03, Buffer.of(0), sign('sha256', content, signer)))
  return {
    name,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${bytes.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`
  }
}

function der (tag: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts)
  const length = content.length < 0x80
    ? Buffer.of(content.length)
    : content.length < 0x100 ? Buffer.of(0x81, content.length) : Buffer.of(0x82, content.length >> 8, content.length & 0xff)
  return Buffer.concat([Buffer.of(tag), length, content])
}

function sequence (...parts: Uint8Array[]): Buffer {
  return der(0x30, ...parts)
}

function oid (hex: string): Buffer {
  return der(0x06, Buffer.from(hex, 'hex'))
}

function integer (value: number): Buffer {
  return der(0x02, Buffer.of(0, value >> 8, value & 0xff).subarray(value < 0x80 ? 2 : value < 0x8000 ? 1 : 0))
}

function time (date: Date): Buffer {
  return der(0x18, Buffer.from(date.toISOString().replace(/\.\d+|[-:T]/g, '')))
}

function distinguishedName (name: string): Buffer {
  return sequence(der(0x31, sequence(oid('550403'), der(0x0c, Buffer.from(name)))))
}

function extension (id: string, value: Buffer): Buffer {
  return sequence(oid(id), der(0x04, value))
}

// A zip file of what the reader chose, without compression: sources are small, and the daemon checks it all anew.
// The format: PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (directory) and 4.3.16 (its end).

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function checksum(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

const UTF8_NAMES = 0x0800;
/** 1 January 1980, the earliest date that the format has: equal files make equal zips. */
const DATE = 0x21;

/** `entries` are {path, file}; a File named `name`. */
export async function pack(entries, name) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { path, file } of entries) {
    const content = new Uint8Array(await file.arrayBuffer());
    const label = new TextEncoder().encode(path);
    const common = [[2, 20], [2, UTF8_NAMES], [2, 0], [2, 0], [2, DATE], [4, checksum(content)], [4, content.length], [4, content.length], [2, label.length], [2, 0]];
    const local = fields([[4, 0x04034b50], ...common]);
    parts.push(local, label, content);
    directory.push(fields([[4, 0x02014b50], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), label);
    offset += local.length + label.length + content.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = fields([[4, 0x06054b50], [2, 0], [2, 0], [2, entries.length], [2, entries.length], [4, size], [4, offset], [2, 0]]);
  return new File([...parts, ...directory, end], name, { type: "application/zip" });
}

/** Little-endian numbers of 2 or 4 bytes, one after another. */
function fields(pairs) {
  const view = new DataView(new ArrayBuffer(pairs.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of pairs) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return new Uint8Array(view.buffer);
}

// How text is shown that a guest, a client or another server chose.
//
// Invariants: such text reaches the page as text nodes only; no control character, no mark that turns the direction of
// text around and no invisible character of it is drawn, but its code point; what is drawn has a length limit.

// Controls except line feed and tab, soft hyphen, marks of direction, zero-width characters, line separators, tags,
// variation selectors beyond the first 16, noncharacters, lone surrogates.
const HIDDEN =
  /[\0-\x08\x0b-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]|\p{Cs}/gu;

// Combining marks beyond these draw over the lines above and below.
const STACKED = /(\p{Mn}{4})\p{Mn}+/gu;

const escape = (character) => `\\u{${character.codePointAt(0).toString(16)}}`;

/** The text with its hidden characters as escapes, at most `most` UTF-16 units of it, on one line. */
export function line(value, most = 300) {
  return block(value, most).replace(/\n/g, "\\n").replace(/\t/g, " ");
}

/** The same, with its lines. */
export function block(value, most = 4000) {
  const whole = typeof value === "string" ? value : value === undefined || value === null ? "" : String(value);
  const part = whole.length > most ? whole.slice(0, most) : whole;
  const text = part.replace(HIDDEN, escape).replace(STACKED, "$1\u2026");
  return whole.length > most ? `${text}\u2026 (${number(whole.length - most)} more characters)` : text;
}

const decimal = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A number with separators, to three digits or so. */
export function number(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "\u2013";
  return Math.abs(value) < 100 ? decimal.format(value) : whole.format(value);
}

/** Bytes in binary units. */
export function bytes(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "\u2013";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 ? whole.format(value) : decimal.format(Number(value.toPrecision(3)))} ${units[unit]}`;
}

/** Milliseconds in a unit that suits them. */
export function duration(ms) {
  if (typeof ms !== "number" || !Number.isFinite(ms)) return "\u2013";
  if (ms < 1 && ms > 0) return `${whole.format(ms * 1000)} \u00b5s`;
  if (ms < 1000) return `${decimal.format(Number(ms.toPrecision(3)))} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${decimal.format(Number(seconds.toPrecision(3)))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** A time of the API as the reader's local time; the exact text where it is something else. */
export function time(value) {
  const date = new Date(value);
  if (value === undefined || value === null || Number.isNaN(date.getTime())) return line(value ?? "\u2013", 40);
  const two = (part) => String(part).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Only the time of day. */
export function clock(value) {
  return time(value).slice(11) || time(value);
}

// What `fetch` answers within the isolate: `data:` URLs, and the guest's own `blob:` URLs.
// https://fetch.spec.whatwg.org/#scheme-fetch

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayPrototypePush,
  NumberParseInt,
  RegExpPrototypeExec,
  SafeRegExp,
  String,
  StringFromCharCode,
  StringPrototypeCharCodeAt,
  StringPrototypeIndexOf,
  StringPrototypeReplace,
  StringPrototypeSlice,
  StringPrototypeStartsWith,
  TypeError,
  Uint8Array,
} = primordials;
const { URL } = core.loadExtScript("ext:deno_web/00_url.js");
const { forgivingBase64Decode } = core.loadExtScript("ext:deno_web/00_infra.js");
const { parseMimeType, serializeMimeType } = core.loadExtScript("ext:deno_web/01_mimesniff.js");
const { Blob } = core.loadExtScript("ext:deno_web/09_file.js");
const { extractBody } = core.loadExtScript("ext:deno_fetch/22_body.js");
const { newInnerResponse } = core.loadExtScript("ext:deno_fetch/23_response.js");

const DEFAULT_TYPE = "text/plain;charset=US-ASCII";
const BASE64 = new SafeRegExp("; *base64$", "i");
const BYTE = new SafeRegExp("^[0-9A-Fa-f]{2}$");
// One range in bytes: https://fetch.spec.whatwg.org/#simple-range-header-value, without a client's own spaces
const RANGE = new SafeRegExp("^bytes[\\t ]*=[\\t ]*([0-9]*)[\\t ]*-[\\t ]*([0-9]*)$");

const { slice } = Blob.prototype;
const sliceOf = primordials.uncurryThis(slice);

// The inner response, or `undefined` where the host must be asked.
function answer(request) {
  const url = request.currentUrl();
  if (StringPrototypeStartsWith(url, "data:")) return answerData(url, request.method);
  if (StringPrototypeStartsWith(url, "blob:")) return answerBlob(url, request);
  return undefined;
}

function respond(url, status, text, headers, content) {
  const inner = newInnerResponse(status, text);
  inner.type = "basic";
  ArrayPrototypePush(inner.urlList, url);
  inner.headerList = headers;
  if (content !== null) inner.body = extractBody(content).body;
  return inner;
}

function answerData(url, method) {
  const data = readData(url);
  if (data === null) throw new TypeError("fetch of a data: URL that is not valid");
  const headers = [["content-type", data.type]];
  return respond(url, 200, "OK", headers, method === "HEAD" ? null : data.bytes);
}

// https://fetch.spec.whatwg.org/#data-url-processor
function readData(url) {
  const parsed = new URL(url);
  parsed.hash = "";
  const input = StringPrototypeSlice(parsed.href, 5);
  const comma = StringPrototypeIndexOf(input, ",");
  if (comma === -1) return null;
  let type = trim(StringPrototypeSlice(input, 0, comma));
  let body = percentDecode(StringPrototypeSlice(input, comma + 1));
  let bytes;
  if (RegExpPrototypeExec(BASE64, type) !== null) {
    type = StringPrototypeReplace(type, BASE64, "");
    try {
      bytes = forgivingBase64Decode(body);
    } catch {
      return null;
    }
  } else {
    bytes = new Uint8Array(body.length);
    for (let i = 0; i < body.length; i++) bytes[i] = StringPrototypeCharCodeAt(body, i);
  }
  body = "";
  if (StringPrototypeStartsWith(type, ";")) type = `text/plain${type}`;
  const mime = parseMimeType(type);
  return { __proto__: null, type: mime === null ? DEFAULT_TYPE : serializeMimeType(mime), bytes };
}

function isSpace(code) {
  return code === 0x20 || (code >= 0x09 && code <= 0x0d && code !== 0x0b);
}

// In one pass: a regular expression scans each run of spaces again from each of its characters.
function trim(text) {
  let start = 0;
  let end = text.length;
  while (start < end && isSpace(StringPrototypeCharCodeAt(text, start))) start++;
  while (end > start && isSpace(StringPrototypeCharCodeAt(text, end - 1))) end--;
  return StringPrototypeSlice(text, start, end);
}

// A text of bytes, each a character of the same number. The URL itself is ASCII.
function percentDecode(text) {
  let from = StringPrototypeIndexOf(text, "%");
  if (from === -1) return text;
  let out = StringPrototypeSlice(text, 0, from);
  while (from < text.length) {
    const hex = text[from] === "%" ? StringPrototypeSlice(text, from + 1, from + 3) : "";
    if (RegExpPrototypeExec(BYTE, hex) !== null) {
      out += StringFromCharCode(NumberParseInt(hex, 16));
      from += 3;
    } else {
      out += text[from];
      from++;
    }
  }
  return out;
}

function answerBlob(url, request) {
  const blob = request.blobUrlEntry;
  if (blob === null || blob === undefined) {
    throw new TypeError(`fetch of ${url}: there is no such blob: URL; it is another isolate's, or was revoked`);
  }
  if (request.method !== "GET") {
    throw new TypeError(`fetch of a blob: URL takes the method GET, not ${request.method}`);
  }
  const { size, type } = blob;
  const wanted = headerOf(request.headerList, "range");
  if (wanted === null) {
    const headers = [["content-length", String(size)], ["content-type", type]];
    return respond(url, 200, "OK", headers, blob);
  }
  const range = rangeOf(wanted, size);
  if (range === null) throw new TypeError(`fetch of a blob: URL: the range '${wanted}' is none of its ${size} bytes`);
  const headers = [
    ["content-length", String(range.end - range.start)],
    ["content-type", type],
    ["content-range", `bytes ${range.start}-${range.end - 1}/${size}`],
  ];
  return respond(url, 206, "Partial Content", headers, sliceOf(blob, range.start, range.end, type));
}

function headerOf(list, name) {
  for (let i = 0; i < list.length; i++) {
    if (primordials.StringPrototypeToLowerCase(list[i][0]) === name) return list[i][1];
  }
  return null;
}

function rangeOf(text, size) {
  const found = RegExpPrototypeExec(RANGE, text);
  if (found === null || (found[1] === "" && found[2] === "")) return null;
  if (found[1] === "") {
    const last = NumberParseInt(found[2], 10);
    return last === 0 ? null : { __proto__: null, start: last >= size ? 0 : size - last, end: size };
  }
  const start = NumberParseInt(found[1], 10);
  let end = size;
  if (found[2] !== "") {
    const last = NumberParseInt(found[2], 10);
    if (last < start) return null;
    end = last >= size ? size : last + 1;
  }
  return start >= size ? null : { __proto__: null, start, end };
}

return { answer };
})();

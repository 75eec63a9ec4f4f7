// `integrity` of a request: the body must have one of the digests that it names.
// https://w3c.github.io/webappsec-subresource-integrity/

(function () {
const { core, primordials } = __bootstrap;
const {
  ArrayPrototypePush,
  ObjectGetOwnPropertyDescriptor,
  ReflectApply,
  RegExpPrototypeExec,
  SafeRegExp,
  StringPrototypeReplaceAll,
  StringPrototypeSlice,
  StringPrototypeSplit,
  StringPrototypeToLowerCase,
  TypeError,
  Uint8Array,
} = primordials;
const { forgivingBase64Encode } = core.loadExtScript("ext:deno_web/00_infra.js");
const crypto = core.loadExtScript("ext:deno_crypto/00_crypto.js");

// The stronger it is, the later it comes: only digests of the strongest one that is named count.
const ALGORITHMS = ["sha256", "sha384", "sha512"];
const NAMES = ["SHA-256", "SHA-384", "SHA-512"];

const DIGEST = new SafeRegExp("^(sha256|sha384|sha512)-([A-Za-z0-9+/_-]+={0,2})(?:\\?.*)?$", "i");
const SPACE = new SafeRegExp("[\\t\\n\\f\\r ]+");

const { digest } = crypto.SubtleCrypto.prototype;
const { get: subtleOf } = ObjectGetOwnPropertyDescriptor(crypto.Crypto.prototype, "subtle");

// What is named with the strongest algorithm; a text without a digest asks for nothing.
function strongest(text) {
  let algorithm = -1;
  let digests = [];
  const words = StringPrototypeSplit(text, SPACE);
  for (let i = 0; i < words.length; i++) {
    const found = RegExpPrototypeExec(DIGEST, words[i]);
    if (found === null) continue;
    const name = StringPrototypeToLowerCase(found[1]);
    const rank = name === ALGORITHMS[2] ? 2 : name === ALGORITHMS[1] ? 1 : 0;
    if (rank > algorithm) {
      algorithm = rank;
      digests = [];
    }
    if (rank === algorithm) ArrayPrototypePush(digests, plain(found[2]));
  }
  return { __proto__: null, algorithm, digests };
}

// Base64 in one form: the other alphabet, and what fills it up, mean the same.
function plain(base64) {
  let text = StringPrototypeReplaceAll(base64, "-", "+");
  text = StringPrototypeReplaceAll(text, "_", "/");
  while (text.length > 0 && text[text.length - 1] === "=") text = StringPrototypeSlice(text, 0, -1);
  return text;
}

// Throws unless the bytes are what `text` says.
async function check(bytes, text, url) {
  const { algorithm, digests } = strongest(text);
  if (algorithm === -1) return;
  const subtle = ReflectApply(subtleOf, crypto.crypto, []);
  const buffer = await ReflectApply(digest, subtle, [NAMES[algorithm], bytes]);
  const actual = plain(forgivingBase64Encode(new Uint8Array(buffer)));
  for (let i = 0; i < digests.length; i++) if (digests[i] === actual) return;
  throw new TypeError(
    `fetch of ${url}: the body's digest is ${ALGORITHMS[algorithm]}-${actual}, which 'integrity' does not name`,
  );
}

return { check };
})();

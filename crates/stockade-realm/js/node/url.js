import "internal:globals";
import { coded } from "internal:errors";
import * as querystring from "node:querystring";

export const { URL, URLSearchParams } = globalThis;

const PARTS = /^([a-z][a-z0-9+.-]*:)?(\/\/)?(?:([^@/?#]*)@)?([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?$/is;

// The legacy form, of what any scheme has.
export function parse(text, parseQuery = false, slashesDenoteHost = false) {
  const [, protocol, slashes, auth, authority, path, search, hash] = PARTS.exec(String(text).trim());
  const hasHost = slashes !== undefined && (protocol !== undefined || slashesDenoteHost);
  const host = hasHost ? authority.toLowerCase() : null;
  const [, hostname, port] = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(host ?? "") ?? [];
  const rest = hasHost ? path : `${slashes ?? ""}${auth === undefined ? "" : `${auth}@`}${authority}${path}`;
  const web = /^(https?|wss?|ftp|file):$/i.test(protocol ?? "");
  const pathname = rest === "" && web ? "/" : rest || null;
  const result = {
    protocol: protocol?.toLowerCase() ?? null,
    slashes: hasHost || null,
    auth: hasHost && auth !== undefined ? decodeURIComponent(auth) : null,
    host,
    port: port || null,
    hostname: host === null ? null : hostname.replace(/^\[|\]$/g, ""),
    hash: hash ?? null,
    search: search ?? null,
    query: search === undefined ? null : search.slice(1),
    pathname,
    path: pathname === null && search === undefined ? null : `${pathname ?? ""}${search ?? ""}`,
  };
  result.href = format(result);
  if (parseQuery) result.query = querystring.parse(result.query ?? "");
  return result;
}

export function format(url, options) {
  if (typeof url === "string") return parse(url).href;
  if (url instanceof URL) {
    const copy = new URL(url);
    if (options?.fragment === false) copy.hash = "";
    if (options?.search === false) copy.search = "";
    if (options?.auth === false) copy.username = copy.password = "";
    return copy.href;
  }
  const auth = url.auth ? `${encodeURIComponent(url.auth).replace("%3A", ":")}@` : "";
  const hostname = url.hostname?.includes(":") ? `[${url.hostname}]` : url.hostname;
  const host = url.host ?? (hostname ? `${hostname}${url.port ? `:${url.port}` : ""}` : "");
  const query = url.query !== null && typeof url.query === "object" ? querystring.stringify(url.query) : "";
  const search = url.search ?? (query && `?${query}`);
  let protocol = url.protocol ?? "";
  if (protocol !== "" && !protocol.endsWith(":")) protocol += ":";
  const slashes = url.slashes || (host && /^(https?|wss?|ftp|file):$/.test(protocol)) ? "//" : "";
  return `${protocol}${slashes}${slashes ? auth + host : ""}${url.pathname ?? ""}${search ?? ""}${url.hash ?? ""}`;
}

export function resolve(from, to) {
  const base = new URL(from, "resolve://");
  const { href, pathname, search, hash } = new URL(to, base);
  return base.protocol === "resolve:" ? `${pathname}${search}${hash}` : href;
}

export function fileURLToPath(url) {
  const { protocol, pathname } = typeof url === "string" ? new URL(url) : url;
  if (protocol !== "file:") throw coded(TypeError, "ERR_INVALID_URL_SCHEME", "The URL must be of scheme file");
  return decodeURIComponent(pathname);
}

export function pathToFileURL(path) {
  const url = new URL("file:///");
  url.pathname = String(path).replaceAll("%", "%25");
  return url;
}

export function urlToHttpOptions(url) {
  const { hash, hostname, href, pathname, port, protocol, search } = url;
  const options = { hash, hostname, href, path: `${pathname}${search}`, pathname, protocol, search };
  if (port !== "") options.port = Number(port);
  if (url.username || url.password) {
    options.auth = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  }
  return options;
}

export const domainToASCII = (name) => URL.parse(`http://${name}`)?.hostname ?? "";
export const domainToUnicode = domainToASCII;
export default {
  domainToASCII,
  domainToUnicode,
  fileURLToPath,
  format,
  parse,
  pathToFileURL,
  resolve,
  URL,
  URLSearchParams,
  urlToHttpOptions,
};

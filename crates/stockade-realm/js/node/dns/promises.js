// Names, looked up by the guest's grants of the kind `dns`, of which the first one answers that lists the name.
//
// `lookup` of a name that no grant lists gives the name back as it is: the host resolves it when a connection is made, so
// that the address that was checked is the one that is connected to, and `node:net` takes it as an address.
import { coded } from "internal:errors";
import { granted } from "internal:grants";

const familyOf = (address) => address.includes(":") ? 6 : 4;
const isAddress = (text) => /^\d+\.\d+\.\d+\.\d+$/.test(text) || text.includes(":");

function failure(code, syscall, hostname, why, cause) {
  const error = new Error(`${syscall} ${code} ${hostname}${why === undefined ? "" : `: ${why}`}`);
  Object.assign(error, { errno: undefined, code, syscall, hostname });
  if (cause !== undefined) error.cause = cause;
  return error;
}

const CODES = {
  BusyError: "EREFUSED",
  NotFound: "ENOTFOUND",
  OperationError: "ESERVFAIL",
  QuotaExceededError: "EREFUSED",
  RangeError: "EBADRESP",
  TimeoutError: "ETIMEOUT",
  TypeError: "EREFUSED",
};

let grants;

// The records of a name, as the grant gives them.
async function ask(name, type, syscall) {
  if (typeof name !== "string") {
    throw coded(TypeError, "ERR_INVALID_ARG_TYPE", `The "name" argument must be of type string. Received ${typeof name}`);
  }
  grants ??= [...granted("Dns").values()];
  if (grants.length === 0) {
    const why = "this guest has no grant of the kind dns; a name is resolved when a connection is made";
    throw failure("ENOTIMP", syscall, name, why);
  }
  let refused;
  for (const grant of grants) {
    try {
      return await grant.resolve(name, type);
    } catch (error) {
      const found = failure(CODES[error?.name] ?? "ESERVFAIL", syscall, name, error?.message, error);
      // Another grant may list the name.
      if (error?.name !== "TypeError") throw found;
      refused ??= found;
    }
  }
  throw refused;
}

const plain = (name) => name.endsWith(".") ? name.slice(0, -1) : name;

// By type of record: what Node calls the query, and how it gives a record.
const QUERIES = {
  A: ["queryA", (address) => address],
  AAAA: ["queryAaaa", (address) => address],
  CNAME: ["queryCname", plain],
  MX: ["queryMx", ({ exchange, preference }) => ({ exchange: plain(exchange), priority: preference })],
  NS: ["queryNs", plain],
  PTR: ["queryPtr", plain],
  SRV: ["querySrv", ({ target, port, priority, weight }) => ({ name: plain(target), port, priority, weight })],
  TXT: ["queryTxt", (texts) => texts],
};

const queryOf = (type) => async (name, options) => {
  const [syscall, form] = QUERIES[type];
  if (options?.ttl) throw failure("ENOTIMP", syscall, name, "a grant does not say how long a record may be kept");
  const found = (await ask(name, type, syscall)).map(form);
  if (found.length === 0) throw failure("ENODATA", syscall, name);
  return found;
};

export const resolve4 = queryOf("A");
export const resolve6 = queryOf("AAAA");
export const resolveCname = queryOf("CNAME");
export const resolveMx = queryOf("MX");
export const resolveNs = queryOf("NS");
export const resolvePtr = queryOf("PTR");
export const resolveSrv = queryOf("SRV");
export const resolveTxt = queryOf("TXT");

const unknown = (syscall) => async (name) => {
  throw failure("ENOTIMP", syscall, String(name), "a grant of the kind dns has no such records");
};
export const resolveAny = unknown("queryAny");
export const resolveSoa = unknown("querySoa");
export const lookupService = unknown("getnameinfo");

export async function resolve(name, type = "A") {
  const kind = String(type).toUpperCase();
  if (kind === "ANY") return resolveAny(name);
  if (kind === "SOA") return resolveSoa(name);
  if (!Object.hasOwn(QUERIES, kind)) {
    throw coded(TypeError, "ERR_INVALID_ARG_VALUE", `The argument 'rrtype' is invalid. Received '${type}'`);
  }
  return queryOf(kind)(name);
}

export async function reverse(address) {
  return (await ask(address, "PTR", "getHostByAddr")).map(plain);
}

export async function lookup(name, options) {
  const given = typeof options === "number" ? { family: options } : options ?? {};
  const family = given.family === "IPv4" ? 4 : given.family === "IPv6" ? 6 : Number(given.family ?? 0);
  const text = String(name);
  let found = [{ address: text, family: familyOf(text) }];
  grants ??= [...granted("Dns").values()];
  if (grants.length > 0 && !isAddress(text)) {
    const addresses = [];
    let failed;
    for (const type of family === 4 ? ["A"] : family === 6 ? ["AAAA"] : ["A", "AAAA"]) {
      try {
        for (const address of await ask(text, type, "getaddrinfo")) addresses.push({ address, family: familyOf(address) });
      } catch (error) {
        failed ??= error;
      }
    }
    if (addresses.length > 0) found = addresses;
    // One that no grant lists is left to the connection.
    else if (failed?.cause?.name !== "TypeError") {
      throw failed ?? failure("ENOTFOUND", "getaddrinfo", text);
    }
  }
  if (given.order === "ipv6first") found.sort((a, b) => b.family - a.family);
  return given.all ? found : found[0];
}

export class Resolver {
  cancel() {}
  getServers() {
    return [];
  }
  setServers() {}
}
Object.assign(Resolver.prototype, {
  resolve,
  resolve4,
  resolve6,
  resolveAny,
  resolveCname,
  resolveMx,
  resolveNs,
  resolvePtr,
  resolveSoa,
  resolveSrv,
  resolveTxt,
  reverse,
});
export const getServers = () => [];
export const setServers = () => {};
export default {
  getServers,
  lookup,
  lookupService,
  resolve,
  resolve4,
  resolve6,
  resolveAny,
  resolveCname,
  resolveMx,
  resolveNs,
  Resolver,
  resolvePtr,
  resolveSoa,
  resolveSrv,
  resolveTxt,
  reverse,
  setServers,
};

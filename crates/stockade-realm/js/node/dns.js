// Names are looked up by the grants of the kind `dns`, see `node:dns/promises`.
import promises from "node:dns/promises";
import { coded } from "internal:errors";

const call = (work) => (...args) => {
  const callback = args.pop();
  if (typeof callback !== "function") {
    throw coded(TypeError, "ERR_INVALID_ARG_TYPE", 'The "callback" argument must be of type function.');
  }
  work(...args).then((value) => queueMicrotask(() => callback(null, value)), (error) =>
    queueMicrotask(() => callback(error)));
};

export function lookup(name, options, callback) {
  if (typeof options === "function") [options, callback] = [undefined, options];
  promises.lookup(name, options).then(
    (found) =>
      queueMicrotask(() => Array.isArray(found) ? callback(null, found) : callback(null, found.address, found.family)),
    (error) => queueMicrotask(() => callback(error)),
  );
}

export const lookupService = call(promises.lookupService);

export const resolve = call(promises.resolve);
export const resolve4 = call(promises.resolve4);
export const resolve6 = call(promises.resolve6);
export const resolveAny = call(promises.resolveAny);
export const resolveCname = call(promises.resolveCname);
export const resolveMx = call(promises.resolveMx);
export const resolveNs = call(promises.resolveNs);
export const resolvePtr = call(promises.resolvePtr);
export const resolveSoa = call(promises.resolveSoa);
export const resolveSrv = call(promises.resolveSrv);
export const resolveTxt = call(promises.resolveTxt);
export const reverse = call(promises.reverse);
export class Resolver {
  cancel() {}
  getServers() {
    return [];
  }
  setServers() {}
}
const { prototype } = Resolver;
Object.assign(prototype, {
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
export const getDefaultResultOrder = () => "verbatim";
export const setDefaultResultOrder = () => {};
export const ADDRCONFIG = 32;
export const V4MAPPED = 8;
export const ALL = 16;
export const CONNREFUSED = "ECONNREFUSED";
export const BADNAME = "EBADNAME";
export const FORMERR = "EFORMERR";
export const NODATA = "ENODATA";
export const NOTFOUND = "ENOTFOUND";
export const NOTIMP = "ENOTIMP";
export const REFUSED = "EREFUSED";
export const SERVFAIL = "ESERVFAIL";
export const TIMEOUT = "ETIMEOUT";
export { promises };
export default {
  ADDRCONFIG,
  ALL,
  BADNAME,
  CONNREFUSED,
  FORMERR,
  getDefaultResultOrder,
  getServers,
  lookup,
  lookupService,
  NODATA,
  NOTFOUND,
  NOTIMP,
  promises,
  REFUSED,
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
  SERVFAIL,
  setDefaultResultOrder,
  setServers,
  TIMEOUT,
  V4MAPPED,
};

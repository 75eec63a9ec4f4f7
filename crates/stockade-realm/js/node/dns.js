// Names are resolved by the host, once and when a connection is made, so that the address that was checked is the one
// that is connected to. `lookup` therefore gives the name back as it is: `node:net` takes it as an address.
import * as promises from "node:dns/promises";

const call = (work) => (...args) => {
  const callback = args.pop();
  work(...args).then((value) => callback(null, value), callback);
};

export function lookup(name, options, callback) {
  if (typeof options === "function") [options, callback] = [undefined, options];
  promises.lookup(name, options).then((found) => {
    if (Array.isArray(found)) callback(null, found);
    else callback(null, found.address, found.family);
  }, callback);
}

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
Object.assign(prototype, { resolve, resolve4, resolve6, resolveCname, resolveMx, resolveSrv, resolveTxt, reverse });
export const getServers = () => [];
export const setServers = () => {};
export const getDefaultResultOrder = () => "verbatim";
export const setDefaultResultOrder = () => {};
export const ADDRCONFIG = 32;
export const V4MAPPED = 8;
export const ALL = 16;
export const CONNREFUSED = "ECONNREFUSED";
export const NODATA = "ENODATA";
export const NOTFOUND = "ENOTFOUND";
export const NOTIMP = "ENOTIMP";
export const SERVFAIL = "ESERVFAIL";
export const TIMEOUT = "ETIMEOUT";
export { promises };
export default {
  ADDRCONFIG,
  ALL,
  CONNREFUSED,
  getDefaultResultOrder,
  getServers,
  lookup,
  NODATA,
  NOTFOUND,
  NOTIMP,
  promises,
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

import { systemError } from "internal:errors";

export async function lookup(name, options) {
  const all = typeof options === "object" && options?.all;
  const found = { address: String(name), family: String(name).includes(":") ? 6 : 4 };
  return all ? [found] : found;
}

// The host answers no questions about names: such an answer could carry data in and out.
const refuse = (kind) => async (name) => {
  const why = "guests ask for no records; a name is resolved when a connection is made";
  throw systemError("ENOTIMP", kind, why, { hostname: name });
};

export const resolve = refuse("query");
export const resolve4 = refuse("queryA");
export const resolve6 = refuse("queryAaaa");
export const resolveAny = refuse("queryAny");
export const resolveCname = refuse("queryCname");
export const resolveMx = refuse("queryMx");
export const resolveNs = refuse("queryNs");
export const resolvePtr = refuse("queryPtr");
export const resolveSoa = refuse("querySoa");
export const resolveSrv = refuse("querySrv");
export const resolveTxt = refuse("queryTxt");
export const reverse = refuse("getHostByAddr");
export class Resolver {
  cancel() {}
  getServers() {
    return [];
  }
  setServers() {}
}
Object.assign(Resolver.prototype, { resolve, resolve4, resolve6, resolveMx, resolveSrv, resolveTxt, reverse });
export const getServers = () => [];
export const setServers = () => {};
export default {
  getServers,
  lookup,
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

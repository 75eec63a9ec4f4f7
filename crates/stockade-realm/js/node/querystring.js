import querystring from "internal:vendor/querystring";

export const { decode, encode, parse, stringify } = querystring;
export const escape = encodeURIComponent;
export const unescape = decodeURIComponent;
export default { decode, encode, escape, parse, stringify, unescape };

import decoder from "internal:vendor/string_decoder";

export const { StringDecoder } = decoder;
export default decoder;

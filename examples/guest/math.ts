// Functions for `stockade call` and `stockade rpc`:
//
//     stockade call examples/guest/math.ts add 2 3
//     stockade rpc examples/guest/math.ts --listen 127.0.0.1:7070
//     curl -H 'content-type: application/json' http://127.0.0.1:7070 \
//       -d '{"jsonrpc":"2.0","id":1,"method":"mean","params":{"values":[1,2,6]}}'

export const add = (a: number, b: number): number => a + b;

// Named parameters arrive as one object.
export function mean({ values }: { values: number[] }): number {
  if (values.length === 0) throw new RangeError("no values");
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// For `stockade exec examples/guest/math.ts -- 2 3`: prints the sum and returns the exit code.
export function main(...args: string[]): number {
  console.log(args.map(Number).reduce(add, 0));
  return args.length === 0 ? 2 : 0;
}

// What TypeScript adds to the language.
enum Level {
  Low = 1,
  High,
}
namespace Shapes {
  export const side = 3;
}
abstract class Base {
  abstract area(): number;
}
class Square extends Base {
  constructor(public side: number, readonly label?: string) {
    super();
  }
  override area(): number {
    return this.side! ** 2;
  }
}
function identity<T>(value: T): T;
function identity(value: unknown) {
  return value;
}
import type { Unused } from "./never-loaded.ts";
type Keys = keyof Square | Unused;
let key: Keys = "side";
console.log(Level.High, Level[1], Shapes.side, new Square(4, "s"), new Square(3).area(), key);
console.log(identity<number>(7), (null as any) ?? "none");

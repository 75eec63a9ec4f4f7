interface Point {
  x: number;
}

type Unused = { a: string };

function fail(point: Point): never {
  throw new RangeError(`no point at ${point.x}`);
}

class Box<T> {
  constructor(private readonly value: T) {}

  open(): T {
    return fail({ x: this.value as number });
  }
}

try {
  new Box<number>(1).open();
} catch (error) {
  console.log((error as Error).stack!.replaceAll(import.meta.url, "main.ts"));
}
new Box<number>(2).open();

class Refused extends Error {
  override name: string = "Refused";
}

export function f(): never {
  throw new Refused("no \u001b[31mred");
}

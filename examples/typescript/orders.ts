// Types that both sides of the TypeScript example use.

export interface Order {
  customer: string;
  lines: { item: string; count: number }[];
}

export interface Receipt {
  customer: string;
  total: number;
}

export enum Problem {
  Empty = "an order needs at least one line",
}

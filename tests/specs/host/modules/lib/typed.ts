enum Color {
  Red = "red",
}
export const typed: string = (Color.Red as string) satisfies string;

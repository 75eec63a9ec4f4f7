// `Deno.exitCode` is the code of a run that ends by itself.
console.log(Deno.exitCode);
Deno.exitCode = 3;
try {
  Deno.exitCode = "x";
} catch (error) {
  console.log(error.name);
}

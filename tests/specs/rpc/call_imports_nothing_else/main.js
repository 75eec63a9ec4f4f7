// What is not there, or no file, is the guest's error.
export const f = async () => {
  const tried = (name) => import(name).then(() => "imported", (error) => error.message);
  return [await tried("node:fs"), await tried("./" + "other.js"), await tried("file:///etc/passwd")];
};

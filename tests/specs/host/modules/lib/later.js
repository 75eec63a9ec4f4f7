export default await new Promise((resolve) => setTimeout(() => resolve("later"), 1));

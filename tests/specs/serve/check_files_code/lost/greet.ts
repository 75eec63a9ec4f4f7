export const greet = (...all: unknown[]) => all.join();

// A plugin: not trusted. It has no files, no network and no environment.

export const transform = (text: string): string => `${text.toUpperCase()}!`;

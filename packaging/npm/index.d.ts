/**
 * The path of the program `stockade` for this platform.
 * @throws if there is no program for this platform, or its package is not installed
 */
export function program(): string;

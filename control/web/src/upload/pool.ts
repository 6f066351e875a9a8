// So many things at once, first come, first served.

export class Pool {
  private readonly queue: (() => void)[] = [];

  constructor(private free: number) {}

  async run<Result>(what: () => Promise<Result>): Promise<Result> {
    if (this.free > 0) this.free -= 1;
    else await new Promise<void>((go) => this.queue.push(go));
    try {
      return await what();
    } finally {
      const next = this.queue.shift();
      if (next) next();
      else this.free += 1;
    }
  }
}

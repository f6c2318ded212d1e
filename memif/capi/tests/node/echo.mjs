// Sends every packet back that the npm package `memif` receives: node echo.mjs SOCKET ROLE ID
import { Memif } from "memif";

const [socketName, role, id] = process.argv.slice(2);
const memif = new Memif({ role, socketName, id: Number(id) });
memif.on("memif:up", () => console.log("up"));
memif.on("memif:down", () => console.log("down", Number(memif.counters.nTxPackets)));
memif.on("data", (packet) => memif.write(packet));

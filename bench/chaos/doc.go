// Command chaos breaks a whole drydock on purpose and judges what is left of it.
//
// It starts the real binary, a real mariadbd, the real dbjobs script and clients that remember what they were told; then
// a seeded storm kills, stops and starves them; then everything may get well, and a checker that shares no code with
// drydock's stores reads streams, files and tables. It ends with exit status 1 when a promise was broken, and writes a
// report. Everything is bounded in time and listens on the loopback address only. See docs/chaos.md.
package main

// Users and albums, as people would ask for them. Variables: BASE_URL, DURATION, VUS.
import http from "k6/http";
import { check, sleep } from "k6";

const base = __ENV.BASE_URL || "http://localhost:8001";

export const options = {
  vus: Number(__ENV.VUS || 10),
  duration: __ENV.DURATION || "15m",
  thresholds: {
    // About one request for users in ten fails on purpose, and one in ten takes ten seconds.
    "checks{route:albums}": ["rate>0.99"],
    "checks{route:users}": ["rate>0.8"],
    "http_req_duration{route:albums}": ["p(95)<1000"],
  },
};

const ROUTES = [
  { route: "users", path: "/users", share: 0.6 },
  { route: "albums", path: "/albums", share: 0.9 },
  { route: "user", path: "/user/vasya", share: 1.0 },
];

export default function () {
  const drawn = Math.random();
  const { route, path } = ROUTES.find((candidate) => drawn < candidate.share);
  const answer = http.get(base + path, { tags: { route }, timeout: "60s" });
  check(answer, { "status is 200": (r) => r.status === 200 }, { route });
  sleep(0.5);
}

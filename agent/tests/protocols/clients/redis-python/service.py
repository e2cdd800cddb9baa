"""A threaded Flask service that keeps its state in Redis: own port, Redis' port."""

import sys

import flask
import redis

app = flask.Flask(__name__)
store = redis.Redis(port=int(sys.argv[2]))


@app.get("/carts/<int:number>")
def cart(number):
    count = store.incr("requests")
    store.hset("carts", str(number), str(count))
    return "ok"


app.run(port=int(sys.argv[1]), threaded=True)

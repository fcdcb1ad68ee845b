-- wrk -s post.lua URL -- BODYFILE "Name: value" ...: the same request again and again; one JSON line at the end.
local ready

function init(args)
  local headers = {}
  for i = 2, #args do
    local name, value = args[i]:match("^([^:]+): (.*)$")
    headers[name] = value
  end
  local file = assert(io.open(args[1], "rb"))
  ready = wrk.format("POST", nil, headers, file:read("*a"))
  file:close()
end

function request()
  return ready
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end

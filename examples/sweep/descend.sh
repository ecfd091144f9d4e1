# descend.sh RATE MOMENTUM: forty steps down a narrow valley, 10 x^2 + y^2 from (1, 1); what is left of it is the loss.
set -eu
mkdir -p "$SKERRY_OUTPUT"
awk -v rate="$1" -v momentum="$2" 'BEGIN {
  x = 1; y = 1
  for (step = 0; step < 40; step++) {
    u = momentum * u - rate * 20 * x / 10; v = momentum * v - rate * 2 * y / 10
    x += u; y += v
  }
  printf "%.9f rate %s momentum %s\n", 10 * x * x + y * y, rate, momentum
}' > "$SKERRY_OUTPUT/loss"
cat "$SKERRY_OUTPUT/loss"

#!/usr/bin/env bash
# Runs programs by turns and prints the median of each of their figures. Usage: compare.sh ROUNDS PROGRAM…
set -euo pipefail
rounds=$1
shift
for ((round = 0; round < rounds; round++)); do
    for program in "$@"; do
        echo "$(basename "$program")" $("$program")
    done
done | sort | awk '
    { n[$1]++; for (i = 2; i <= 4; i++) value[$1, i, n[$1]] = $i }
    END {
        printf "%-12s %22s %22s %22s\n", "ns a frame", "1 thread, in place", "1 thread, copy", "2 threads, in place"
        for (name in n) {
            printf "%-12s", name
            for (i = 2; i <= 4; i++) {
                for (a = 1; a <= n[name]; a++) list[a] = value[name, i, a] + 0
                for (a = 1; a <= n[name]; a++) for (b = a + 1; b <= n[name]; b++)
                    if (list[b] < list[a]) { t = list[a]; list[a] = list[b]; list[b] = t }
                printf " %22.2f", list[int((n[name] + 1) / 2)]
            }
            printf "\n"
        }
    }'

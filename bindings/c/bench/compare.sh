#!/usr/bin/env bash
# Runs programs by turns and prints the median of each of their figures. Usage: compare.sh ROUNDS PROGRAM…
# A program prints its figures as "name value" lines, in nanoseconds a frame.
set -euo pipefail
rounds=$1
shift
for ((round = 0; round < rounds; round++)); do
    for ((turn = 0; turn < $#; turn++)); do
        # Each round begins with another program.
        program=${@:1 + (round + turn) % $#:1}
        "$program" | sed "s|^|$(basename "$program") |"
    done
done | awk -v first="$(basename "$1")" '
    {
        if (!(($2) in seen)) { seen[$2] = 1; figures[++m] = $2 }
        if (!(($1) in known)) { known[$1] = 1; if ($1 != first) programs[++p] = $1 }
        value[$1, $2, ++n[$1, $2]] = $3
    }
    function median(name, figure,   count, a, b, t, list) {
        count = n[name, figure]
        if (count == 0) return "-"
        for (a = 1; a <= count; a++) list[a] = value[name, figure, a] + 0
        for (a = 1; a <= count; a++) for (b = a + 1; b <= count; b++)
            if (list[b] < list[a]) { t = list[a]; list[a] = list[b]; list[b] = t }
        return list[int((count + 1) / 2)]
    }
    END {
        printf "%-22s %16s", "ns a frame, median", first
        for (i = 1; i <= p; i++) printf " %22s", programs[i]
        printf "\n"
        for (j = 1; j <= m; j++) {
            base = median(first, figures[j])
            printf "%-22s %16.1f", figures[j], base
            for (i = 1; i <= p; i++) {
                here = median(programs[i], figures[j])
                if (here == "-") printf " %22s", "-"
                else printf " %12.1f (%+7.1f)", here, here - base
            }
            printf "\n"
        }
    }'

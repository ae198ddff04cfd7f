"""Meta-KD as one job: a table of texts with a domain each -> one teacher -> one small student a domain.

    codir compress --recipe=meta_kd --teacher=bert-base-uncased --train=train.tsv --dev=dev.tsv --domain_column=domain \\
        --layers=3 --output=runs/mine

The given model is the encoder that weighs the texts and that the teacher is trained from. Each domain gets two stages,
`inside_NAME` and `NAME`; its student is exported to export/NAME. Baselines, `--compare=`: `single` (each student from a
teacher of its own domain), `mixed` (from a teacher of all domains, nothing weighted, no domain term), `finetune` (cross
entropy alone).
"""

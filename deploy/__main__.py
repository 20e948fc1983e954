"""Write the files that are made from others:    python -m deploy

- deploy/grafana/dashboard.json from deploy/grafana/panels.py
- deploy/prometheus/operator-rules.yaml, which is for the Prometheus operator, from deploy/prometheus/rules.yaml
"""

from deploy.generated import generated

if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
        print(path)

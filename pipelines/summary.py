def summarize(output, seconds):
    return f"{output} {seconds:.1f}s"

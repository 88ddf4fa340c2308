# docker build -t ddfa-batch . && docker run --rm -v "$PWD:/data" ddfa-batch process photographs/ out/
FROM python:3.12-slim
COPY . /source
RUN pip install --no-cache-dir '/source[render]' && rm -rf /source && useradd --create-home user
USER user
WORKDIR /data
ENTRYPOINT ["ddfa-batch"]
CMD ["--help"]
